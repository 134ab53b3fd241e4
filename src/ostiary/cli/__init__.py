"""The command `ostiary`: one module for each family of commands, each imported when it is asked for."""
