"""What keeps the project honest: sizes and generated pages."""
