"""The database: connection, transactions, migrations, and secrets sealed at rest."""
