"""What ordinary driving looks like to a frozen network: learnt from a drive without labels, kept in a small file."""
