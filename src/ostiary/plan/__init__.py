"""The intermediate form that gate, guard, prover and explanation all read, and the one evaluator."""
