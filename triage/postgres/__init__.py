"""What PostgreSQL remembers: SQL and the rows it returns, one module per table family."""
