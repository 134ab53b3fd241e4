"""From HTTP to business operations, one adapter a file."""
