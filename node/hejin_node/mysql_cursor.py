"""PyMySQL with a cursor that fetches as it is asked, and leaves unread what nobody wants."""

from __future__ import annotations

from pymysql import Connection
from pymysql.cursors import SSCursor


def fetch_as_asked(connection: Connection) -> None:
    """Let a connection's new cursors be such."""
    connection.cursorclass = _Unbuffered


class _Unbuffered(SSCursor):  # type: ignore[misc]  # PyMySQL has no types
    """A cursor that, closed early or when the server is gone, gives up its connection.

    PyMySQL's own would read all the rest, however much that is, from a server that may be gone.
    """

    def close(self) -> None:
        """Close the cursor, and with rows still to come the connection; at most once."""
        if self.connection is not None and self._result is not None:
            if self._result.unbuffered_active and self.connection.open:
                self.connection.close()
            self._result.unbuffered_active = False
        super().close()

    __del__ = close
