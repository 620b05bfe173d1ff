"""The images and their compose file: hardened as promised, and with health checks that tell."""

from __future__ import annotations

import fnmatch
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from queue import Queue

import pytest

from hejin_regulator import authority, service
from hejin_regulator.authority import Terms
from hejin_trust.text import Text

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
IMAGES = {
    "regulator": "regulator",
    "bank": "coordinator",
    "node-anping": "node",
    "node-gaoyang": "node",
}


# -- image definitions -------------------------------------------------------------------


@pytest.mark.parametrize("role", ["regulator", "coordinator", "node"])
def test_an_image_runs_as_a_numbered_user_without_build_tools_and_tells_its_health(
    role: str,
) -> None:
    _, build, final = (DOCKER / f"{role}.Dockerfile").read_text().split("\nFROM ")
    assert "pip install" in build
    assert "pip " not in final
    (user,) = re.findall(r"^USER (.+)$", final, re.M)
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", user)
    assert final.count("\nHEALTHCHECK ") == 1
    assert final.count("\nVOLUME /var/lib/hejin\n") == 1
    assert not re.search(r"torch(?!,| or)|EXPOSE|ADD |curl|wget", final)
    assert f'CMD ["{role}", "serve"' in final


def test_the_build_context_holds_what_the_images_copy_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for path in DOCKER.glob("*.Dockerfile")
        for line in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.M)
        for source in line.split()[:-1]
    }
    assert copied == allowed
    assert not any(fnmatch.fnmatch(name, "*.key") for name in allowed)


# -- compose -----------------------------------------------------------------------------


def compose_config() -> dict[str, dict[str, dict[str, object]]]:
    """Return the compose file as docker-compose reads it."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with Flower")
    command = shutil.which("docker-compose")
    if command is None:
        pytest.skip("docker-compose is not installed: apt-get install docker-compose")
    shown = subprocess.run(
        [command, "-f", DOCKER / "compose.yaml", "config"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    assert shown.returncode == 0, shown.stderr
    read = yaml.safe_load(shown.stdout)
    assert isinstance(read, dict)
    return read


def test_docker_compose_accepts_the_file_and_every_service_is_hardened() -> None:
    config = compose_config()
    assert set(config["services"]) == set(IMAGES)
    volumes: list[str] = []
    for name, service_ in config["services"].items():
        assert service_["read_only"] is True, name
        assert service_["user"] == "10001:10001", name
        assert service_["cap_drop"] == ["ALL"], name
        assert service_["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service_, name
        assert str(service_["tmpfs"]).startswith("['/tmp:"), name
        build = service_["build"]
        assert isinstance(build, dict)
        assert Path(build["context"]) == ROOT
        assert build["dockerfile"] == f"docker/{IMAGES[name]}.Dockerfile"
        command = service_["command"]
        assert isinstance(command, list)
        assert command[:2] == [IMAGES[name], "serve"]
        mounts = service_["volumes"]
        assert isinstance(mounts, list)
        writable = [str(mount).split(":")[0] for mount in mounts if not str(mount).endswith(":ro")]
        assert "exchange" in writable
        volumes += [mount for mount in writable if mount != "exchange"]
    assert sorted(volumes) == sorted(IMAGES)  # a named volume each, shared with nobody
    assert set(config["volumes"]) == {*IMAGES, "exchange"}


def test_nodes_publish_no_port() -> None:
    services = compose_config()["services"]
    assert not any("ports" in services[name] for name in ("node-anping", "node-gaoyang"))


# -- the health check of the servers -----------------------------------------------------


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two regulators of the same name."""
    now = datetime.now(UTC).replace(microsecond=0)
    terms = Terms(
        consortium="hebei",
        regulator="regulator",
        name=Text("Regulator", "监管方"),
        rho_cap=Fraction(1, 10),
        rho_alone_cap=Fraction(3, 10),
        delta=Fraction(1, 10**6),
        period_from=now,
        period_to=now + timedelta(days=365),
        minimum_nodes=3,
        minimum_enterprises=100,
        r=1,
    )
    folder = tmp_path_factory.mktemp("homes")
    for name in ("one", "other"):
        authority.init(folder / name, terms, now)
    return folder / "one", folder / "other"


@contextmanager
def serving(home: Path) -> Iterator[int]:
    port: Queue[int] = Queue()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(service.serve, home, "127.0.0.1:0", port.put, stop)
        try:
            yield port.get(timeout=20)
        finally:
            stop.set()
            done.result(timeout=20)


def well(home: Path, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DOCKER / "health.py", f"127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"HEJIN_HOME": str(home), "PATH": os.environ["PATH"]},
    )


def test_a_serving_member_is_well_and_a_stopped_one_is_not(homes: tuple[Path, Path]) -> None:
    home, _ = homes
    with serving(home) as port:
        answer = well(home, port)
        assert (answer.returncode, answer.stderr) == (0, "")
    answer = well(home, port)
    assert answer.returncode == 1
    assert answer.stderr.startswith("not well: ")


def test_another_server_on_the_port_is_not_taken_for_the_own(homes: tuple[Path, Path]) -> None:
    home, other = homes
    with serving(other) as port:
        answer = well(home, port)
        assert answer.returncode == 1
        assert "SSL" in answer.stderr


def test_a_server_that_accepts_and_stays_silent_is_not_well(homes: tuple[Path, Path]) -> None:
    health = runpy.run_path(str(DOCKER / "health.py"))
    check: Callable[[Path, str, int], None] = health["check"]
    check.__globals__["SECONDS"] = 0.3
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(OSError, match="timed out"):
            check(homes[0], "127.0.0.1", silent.getsockname()[1])
        silent.accept()[0].close()


def test_a_folder_without_a_charter_is_not_well(tmp_path: Path) -> None:
    assert well(tmp_path, 9).returncode == 1


def test_a_node_s_health_check_fails_before_it_has_joined(tmp_path: Path) -> None:
    text = (DOCKER / "node.Dockerfile").read_text()
    assert 'CMD ["hejin", "node", "status", "--json"]' in text
    words = [sys.executable, "-m", "hejin_sandbox.main", "node", "status", "--json"]
    env = {**os.environ, "HEJIN_HOME": str(tmp_path)}
    answer = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert answer.returncode != 0
    assert answer.stdout == ""
