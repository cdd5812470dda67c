"""The audit of dependencies, with a database that the test plays itself."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytest.importorskip("pip_audit")

HASH = f"--hash=sha256:{'0' * 64}"
AUDIT = Path(__file__).with_name("audit.py")


@pytest.fixture
def database():
    """A database that knows of one vulnerable version, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((question["package"]["name"], question["version"]))
            answer = {"vulns": [{"id": "OSV-1", "summary": "bad", "affected": []}]} if asked[-1] == ("b", "2.0") else {}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def audit(requirements, database):
    command = [sys.executable, str(AUDIT), str(requirements), "--database", database]
    return subprocess.run(command, capture_output=True, text=True)


def test_vulnerable_locked_version_fails(database, tmp_path):
    url, asked = database
    requirements = tmp_path / "requirements.lock"
    requirements.write_text(f"a==1.0 {HASH}\nb==1.0 {HASH}\n")
    done = audit(requirements, url)
    assert done.returncode == 0, done.stderr
    assert set(asked[1:]) == {("a", "1.0"), ("b", "1.0")}
    requirements.write_text(f"a==1.0 {HASH}\nb==2.0 {HASH}\n")
    done = audit(requirements, url)
    assert done.returncode == 1
    assert "OSV-1" in done.stdout


def test_unreachable_database_is_skipped(tmp_path):
    done = audit(tmp_path / "requirements.lock", "http://127.0.0.1:9")
    assert done.returncode == 0
    assert done.stdout.startswith("pip-audit skipped: its database cannot be reached (")
