"""What is launched: one short file for each job, with its arguments and the wiring."""
