"""The processes of a run: who they are, how they share tensors, what they compute together."""
