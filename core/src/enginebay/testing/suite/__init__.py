"""The numbered clauses by subject. A clause is a test whose first line says it; ``clauses`` lists them."""
