"""What runs the network on windows: one interface, and its implementation in torch."""
