"""The authorization server: who is calling, what each was given, and taking it back."""
