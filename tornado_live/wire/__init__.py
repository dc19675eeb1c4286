"""What clients and server say to each other: typed messages both ways. No I/O."""
