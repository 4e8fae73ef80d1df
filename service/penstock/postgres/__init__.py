"""The database: one store per stage, SQL in `.sql` files, each query named as the store method that runs it."""
