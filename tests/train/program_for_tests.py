"""A program as people have them: trains nothing, writes metrics of a run in one of the three forms.

python program_for_tests.py FORM BEHAVIOUR
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

form, behaviour = sys.argv[1], sys.argv[2]
out, tokens = Path(os.environ["MIXWRIGHT_OUT"]), int(os.environ["MIXWRIGHT_TOKENS"])
run = json.loads((out / "run.json").read_text())
weights = run["schedule"][0]["weights"]
first = next(iter(weights.values()))
attempt = int(os.environ["MIXWRIGHT_ATTEMPT"])


def losses(part):
    end = {"val:a": 2 + first / part, "val:b": 3 - first / part + run["seed"] / 100}
    return end if behaviour != "nan" or part < 1 else end | {"val:b": float("nan")}


def say(step, part):
    values = {"loss": float("nan") if behaviour == "lost" else 3.0, "tokens": int(tokens * part), **losses(part)}
    if form == "jsonl":
        with (out / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
    elif form == "tensorboard":
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        global writer
        if "writer" not in globals():
            writer = EventFileWriter(str(out / "tb"))
        value = [Summary.Value(tag=name, simple_value=number) for name, number in values.items()]
        writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=value)))
        writer.flush()
    else:
        folder = out / "mlruns" / "1" / "abc"
        (folder / "metrics").mkdir(parents=True, exist_ok=True)
        (folder / "meta.yaml").write_text("run_id: abc\n")
        for name, number in values.items():
            with (folder / "metrics" / name).open("a") as stream:
                stream.write(f"{int(time.time() * 1000)} {number!r} {step}\n")


if behaviour == "crash" or (behaviour == "crash-once" and attempt == 0):
    print("loading data", flush=True)
    print("ValueError: the disk is on fire", file=sys.stderr)
    sys.exit(3)
if behaviour == "silent":
    sys.exit(0)
if behaviour == "hang":
    child = "import time, sys\nopen(sys.argv[1], 'w').write('x')\nwhile True: time.sleep(1)"
    started = subprocess.Popen([sys.executable, "-c", child, str(out / "child")], start_new_session=True)
    (out / "pids").write_text(f"{os.getpid()} {started.pid}")
    say(1, 0.25)
    while True:
        time.sleep(1)
for tokens_kept in filter(None, os.environ["MIXWRIGHT_CHECKPOINTS"].split(",")):
    if behaviour != "no-checkpoint":
        (out / f"checkpoint-{tokens_kept}").mkdir(exist_ok=True)
        (out / f"checkpoint-{tokens_kept}" / "weights").write_text("w")
done = int((out / "state").read_text()) if (out / "state").exists() else 0
for step in range(done + 1, 5):
    say(step * 10, step / 4)
    (out / "state").write_text(str(step))
    if behaviour == "lost" and step == 4:
        time.sleep(60)
    if behaviour == "interrupted" and step == 2 and attempt == 0 and done == 0:
        os._exit(1)
if form == "tensorboard":
    writer.close()
