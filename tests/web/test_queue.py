"""The queue: one job at a time by whatever route, and none for a client that has gone."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image as PillowImage

from support.images import generated_photograph
from support.processes import PATIENCE_S
from support.web_server import Server, get, post

pytestmark = pytest.mark.slow

NOTING = """
import sys, time
import trinas_app.web.runner as runner
usual = runner.run_jobs
def run_jobs(*arguments, **options):
    print("BEGIN", file=sys.stderr, flush=True)
    time.sleep(0.1)
    try:
        yield from usual(*arguments, **options)
    finally:
        print("END", file=sys.stderr, flush=True)
runner.run_jobs = run_jobs
from trinas_app.cli import main
main()
"""
"""A page that says when a job begins and ends. Jobs are a little longer, so that two at a time would be seen."""


def upload(url: str, path: Path) -> dict[str, object]:
    files = {"files": (path.name, path.read_bytes())}
    (found,) = post(f"{url}/gradio_api/upload", files=files).json()
    return {"path": found, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def join(url: str, function: dict, data: list[object], session: str) -> int:
    body = {"data": data, "fn_index": function["id"], "session_hash": session}
    return post(f"{url}/gradio_api/queue/join", json=body).status_code


def test_one_job_at_a_time_by_any_route(tmp_path, cat):
    server = Server(tmp_path, "--max-queue", "100", python=("-c", NOTING))
    try:
        config = get(f"{server.url}/config").json()
        parts = {part["id"]: part["props"].get("value") for part in config["components"]}
        functions = {function["api_name"]: function for function in config["dependencies"]}
        file = upload(server.url, cat)

        def fill(name: str) -> list[object]:
            """Return the values with which the page would call a function of it."""
            return [file, *[parts[number] for number in functions[name]["inputs"][1:]]]

        def send(number: int) -> int:
            body: dict[str, object] = {"data": [file, 2, "", "best"]}
            match number % 6:
                case 0:
                    return post(f"{server.url}/gradio_api/call/upscale", json=body).status_code
                case 1:
                    return post(f"{server.url}/gradio_api/run/upscale", json=body).status_code
                case 2:
                    return join(server.url, functions["upscale"], [file, 2, "", "best"], f"api{number}")
                case 3:
                    return join(server.url, functions["_run"], fill("_run"), f"page{number}")
                case 4:
                    batch = [[file], *fill("_run")[1:]]
                    return join(server.url, functions["_run_1"], batch, f"batch{number}")
                case _:
                    body |= {"fn_index": functions["_run"]["id"], "session_hash": f"past{number}"}
                    return post(f"{server.url}/gradio_api/run/predict", json=body).status_code

        with ThreadPoolExecutor(24) as pool:
            statuses = list(pool.map(send, range(24)))
        assert statuses == [200, 404, 200, 200, 200, 404] * 4
        client = Client(server.url, verbose=False, download_files=str(tmp_path / "got"))
        client.predict(handle_file(str(cat)), 2, "", api_name="/upscale")  # all others are before it in the queue
        client.close()
        noted = re.findall("BEGIN|END", server.said())
        assert noted == ["BEGIN", "END"] * 17
    finally:
        server.close()
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("way", ["queue", "call"])
def test_a_job_whose_client_has_gone_is_stopped(server, tmp_path, cat, way):
    large = tmp_path / f"large-{way}.png"
    PillowImage.fromarray(generated_photograph(1800, 1800)).save(large)
    data = [upload(server.url, large), 4, "trinas-m-x4", "best"]
    if way == "queue":
        functions = get(f"{server.url}/config").json()["dependencies"]
        (function,) = [each for each in functions if each["api_name"] == "upscale"]
        assert join(server.url, function, data, "goner") == 200
        stream = "queue/data?session_hash=goner"
    else:
        called = post(f"{server.url}/gradio_api/call/upscale", json={"data": data})
        stream = f"call/upscale/{called.json()['event_id']}"
    with httpx.stream("GET", f"{server.url}/gradio_api/{stream}", timeout=PATIENCE_S) as messages:
        next(line for line in messages.iter_lines() if way == "call" or "process_starts" in line)
    client = Client(server.url, verbose=False, download_files=str(tmp_path / "got"))
    client.predict(handle_file(str(cat)), 2, "", api_name="/upscale")  # it waits for the end of the other job
    client.close()
    assert not server.find_files(f"large-{way}_x4.png")
    assert server.find_files(large.name), "the upload is still there"
