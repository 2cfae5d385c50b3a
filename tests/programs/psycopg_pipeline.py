"""Pipelines of 32 statements, 25 times, with an error in every fifth: python psycopg_pipeline.py PORT"""
import sys

import psycopg

target = f"host=127.0.0.1 port={sys.argv[1]} user=app dbname=shop sslmode=disable gssencmode=disable"
with psycopg.connect(target, autocommit=True) as connection:
    connection.execute("CREATE TEMP TABLE items (id int, name text)")
    for turn in range(25):
        try:
            with connection.pipeline():
                for n in range(16):
                    connection.execute("INSERT INTO items VALUES (%s, %s)", (n, f"item {n}"))
                    connection.execute("SELECT name FROM items WHERE id = %s LIMIT 1", (n,))
                if turn % 5 == 4:
                    connection.execute("SELECT 1 / %s::int", (0,))
        except psycopg.errors.DivisionByZero:
            pass
