"""An operator who lets machines join and removes them, while everything else happens too."""

from cluster.state import reads
from cluster.state.commands import AddMember, RemoveMember
from cluster.state.results import Code
from tests.simulation.clients import Call, Client
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Odds
from tests.simulation.world import World

MACHINES_MAX = 9  # in one history, those that were removed included
MEMBERS_MIN = 3  # with fewer, one wrong clock is as many as all


class Operator:
    """One change after another; what becomes of it is the cluster's to say."""

    def __init__(self, world: World, odds: Odds, cluster: Cluster) -> None:
        self._world = world
        self._cluster = cluster
        self._random = world.random("operator")
        self.client = Client(odds.clients, world, odds, cluster.machines)

    def change(self) -> None:
        if self._random.random() < 0.5:
            self._join()
        else:
            self._remove()

    def _join(self) -> None:
        founding = self._cluster.founding
        if len(founding.member_ids) >= MACHINES_MAX:
            return
        name = founding.add()
        member_id = founding.member_ids[name]

        def done(call: Call) -> None:
            if call.answer is None or call.answer[0] != Code.OK:
                return  # where it was added all the same, that machine never came up
            states = [machine.process.state.now for machine in self._cluster.machines if machine.process]
            lists = [members for state in states if member_id in (members := reads.members(state))]
            if lists:
                self._world.counts["joined"] += 1
                self._cluster.join(name, lists[0])

        self.client.ask(AddMember(member_id, name, f"{name}:2", f"{name}:1"), done)

    def _remove(self) -> None:
        machines = self._cluster.active
        if len(machines) <= MEMBERS_MIN:
            return
        machine = self._random.choice(machines)
        self.client.ask(RemoveMember(machine.member_id), lambda _call: None)
