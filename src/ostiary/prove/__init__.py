"""What a plan means before it is in force: rules that must hold, what a change widens, why a decision fell."""
