"""Our own certificate authority: the gate's certificate, and those given to partners."""
