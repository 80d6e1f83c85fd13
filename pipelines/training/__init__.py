"""One trainer for every game of players: activation checkpointing, exact resume, launch on many workers."""
