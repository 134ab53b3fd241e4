"""Ostiary, the doorkeeper of ERP APIs."""
