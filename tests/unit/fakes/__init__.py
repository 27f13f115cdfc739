"""Stand-ins for the replica's processes, which speak the supervisor's protocol and nothing else."""
