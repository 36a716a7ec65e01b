"""What a client of Watchword imports.

`watchword.client.Client` asks a cluster from asyncio, `watchword.blocking.BlockingClient` from anywhere else;
`watchword.errors` is what they raise, `watchword.profile` where they read whom to ask and as whom.  `watchword.v1`
holds the messages, generated from `proto/`.
"""
