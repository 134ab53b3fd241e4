"""From the policy document to the plan: pure, and the same document always gives the same plan."""
