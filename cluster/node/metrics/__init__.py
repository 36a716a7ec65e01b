"""What a node counts of itself, and the port on which it tells Prometheus and load balancers."""
