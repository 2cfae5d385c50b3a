"""Three connections to PostgreSQL with 25 queries each: client library, port; PGSSLMODE says whether over TLS. asyncpg uses
its three at once."""

import asyncio
import sys

library, port = sys.argv[1], int(sys.argv[2])


def psycopg2():
    import psycopg2

    for _ in range(3):
        connection = psycopg2.connect(host="127.0.0.1", port=port, user="app", dbname="shop")
        connection.autocommit = True
        with connection.cursor() as cursor:
            for n in range(25):
                cursor.execute("SELECT %s + 1", (n,))
                assert cursor.fetchone() == (n + 1,)
        connection.close()


async def asyncpg():
    import asyncpg

    async def ask():
        # No reset when it is closed: the server would not count it as one statement.
        connection = await asyncpg.connect(host="127.0.0.1", port=port, user="app", database="shop")
        for n in range(25):
            assert await connection.fetchval("SELECT $1::int + 1", n) == n + 1
        await connection.close()

    await asyncio.gather(*(ask() for _ in range(3)))


psycopg2() if library == "psycopg2" else asyncio.run(asyncpg())
