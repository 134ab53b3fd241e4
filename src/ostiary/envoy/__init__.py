"""From plan and population to all that Envoy reads: pure; and how Envoy is found, started, given files and asked about."""
