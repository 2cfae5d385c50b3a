"""COPY both ways, text with backslashes in a session that escapes with them, and 32 pipelined cycles of 5 ms each:
python postgres_session.py PORT"""
import sys

import psycopg

target = f"host=127.0.0.1 port={sys.argv[1]} user=app dbname=shop sslmode=disable gssencmode=disable"
with psycopg.connect(target, autocommit=True) as connection:
    connection.execute("CREATE TEMP TABLE notes (id int, body text)")
    with connection.cursor() as cursor:
        with cursor.copy("COPY notes FROM STDIN") as copy:
            for n in range(100):
                copy.write_row((n, "a secret"))
        with cursor.copy("COPY notes TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 100
    connection.execute("SET standard_conforming_strings = off")
    connection.execute("SELECT 'it\\'s a secret', count(*) FROM notes WHERE body = 'x\\' or a secret'")
    connection.execute("RESET standard_conforming_strings")
    connection.execute("SELECT 'it\\', count(*) FROM notes")
    with connection.pipeline() as pipeline:
        for n in range(32):
            connection.execute("SELECT pg_sleep(%s)", (0.005,))
            pipeline.sync()
