"""What is launched: one short file per job, arguments and wiring only."""
