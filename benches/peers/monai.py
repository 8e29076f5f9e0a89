"""Times published segmentation losses in PyTorch: MONAI's DiceCELoss and nnU-Net's DC_and_CE_loss.

    pip install torch monai nnunetv2
    python benches/peers/monai.py --json monai.json
    python benches/peers/monai.py --device cuda --shape 1x14x96x96x96 --runs 50

Each loss runs as published (eager) and through torch.compile, on random float32 logits and random labels.
A run is forward and backward together, from the call to the gradient of the logits, by the wall clock. Every
round runs each contender once, so that a change of the machine's speed meets all of them. The median and the
10th and 90th percentiles are written as JSON, and printed to stderr.

torch.compile needs a C++ compiler (g++) on a CPU, and Triton on a GPU. What it can not compile of a loss runs
eagerly: it makes one graph of DC_and_CE_loss, and three of DiceCELoss (monai 1.6).

With --serve it times nothing by itself, and answers `segloss bench --peers`, a line of JSON for each line of JSON:

    {"shape": [2, 4, 128, 128, 128]}     {"peers": ["MONAI DiceCELoss, eager", …], "on": "PyTorch … on cpu, 2 threads"}
    {"run": "MONAI DiceCELoss, eager"}   {"seconds": 0.2471}

What it can not do is {"error": "…"}. It ends with its input.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

SERVES = "--serve" in sys.argv[1:]
if SERVES:
    # whatever a library prints is no answer
    ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # threads that wait for work sleep, and leave the cores to the next contender
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")

# this file's folder comes off the path, or `import monai` would find this file
HERE = Path(__file__).resolve().parent
sys.path = [folder for folder in sys.path if Path(folder).resolve() != HERE]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from monai.losses import DiceCELoss  # noqa: E402
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss  # noqa: E402
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss  # noqa: E402

SHAPES = ["2x4x128x128x128", "1x14x96x96x96"]
TOLERANCE = 1e-4


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), metavar="N", help="default: all CPUs")
    parser.add_argument("--shape", type=shape, action="append", metavar="NxCxD[xHxW]",
                        help=f"may be repeated; default: {' and '.join(SHAPES)}")
    parser.add_argument("--runs", type=positive, default=15, help="timed runs of each contender (default: 15)")
    parser.add_argument("--warmup", type=positive, default=3, help="untimed runs before them (default: 3)")
    parser.add_argument("--serve", action="store_true", help="answer on stdin and stdout what is asked")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: stdout")
    parser.add_argument("--no-compile", action="store_true", help="eager contenders only")
    args = parser.parse_args()
    args.shape = args.shape or [shape(text) for text in SHAPES]
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device")
    return args


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def shape(text):
    sizes = [positive(size) for size in text.split("x")]
    if not 3 <= len(sizes) <= 5 or sizes[1] < 2:
        raise argparse.ArgumentTypeError(f"{text} is not NxCxD[xHxW] with two classes or more")
    return sizes


def eager_losses():
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return {
        "MONAI DiceCELoss": DiceCELoss(softmax=True, to_onehot_y=True),
        "nnU-Net DC_and_CE_loss": DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss),
    }


def draw(sizes, device):
    torch.manual_seed(1)
    items, classes, *space = sizes
    logits = torch.randn(sizes, device=device, requires_grad=True)
    # both losses convert other label types to int64, so that these spare them the conversion
    target = torch.randint(classes, (items, 1, *space), device=device)
    return logits, target


def contenders(logits, target, compile_too):
    """The losses by name, each checked on these tensors."""
    # without it the kernels of a second shape would be those for any shape, which are slower
    torch.compiler.reset()
    checked = {}
    for name, loss in eager_losses().items():
        expected = evaluate(loss, logits, target)
        if not np.isfinite(expected):
            sys.exit(f"{name}, eager: the loss is {expected}")
        checked[f"{name}, eager"] = loss
        if compile_too:
            compiled = torch.compile(loss)
            reason = why_not(compiled, logits, target, expected)
            if reason is None:
                checked[f"{name}, compiled"] = compiled
            else:
                print(f"{name}, compiled: left out: {reason}", file=sys.stderr)
    return checked


def evaluate(loss, logits, target):
    value = loss(logits, target)
    value.backward()
    logits.grad = None
    return value.item()


def why_not(compiled, logits, target, expected):
    """Why a compiled loss can not be timed, or None."""
    try:
        value = evaluate(compiled, logits, target)
    # the compiler's many stages share no narrower class of errors
    except Exception as error:
        logits.grad = None
        return f"{type(error).__name__}: {error}".strip()
    if not abs(value - expected) <= TOLERANCE:
        return f"its loss is {value}, and {expected} when eager"
    return None


def timed(loss, logits, target):
    """Nanoseconds of one forward and backward."""
    synchronize(logits.device)
    start = time.perf_counter_ns()
    loss(logits, target).backward()
    synchronize(logits.device)
    elapsed = time.perf_counter_ns() - start
    logits.grad = None
    return elapsed


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(sizes, args):
    """The figures of all contenders on one shape."""
    logits, target = draw(sizes, args.device)
    losses = contenders(logits, target, not args.no_compile)
    times = {name: [] for name in losses}
    for turn in range(args.warmup + args.runs):
        for name, loss in losses.items():
            elapsed = timed(loss, logits, target)
            if turn >= args.warmup:
                times[name].append(elapsed)
    return [figure(name, sizes, runs) for name, runs in times.items()]


def serve(args):
    """Answers until the input ends."""
    losses, tensors = {}, ()
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if "shape" in request:
                # the last shape's tensors go first
                losses, tensors = {}, ()
                tensors = draw(shape("x".join(map(str, request["shape"]))), args.device)
                losses = contenders(*tensors, not args.no_compile)
                for loss in losses.values():
                    for _ in range(args.warmup):
                        timed(loss, *tensors)
                answer = {"peers": list(losses), "on": machine(args.device)["backend"]}
            else:
                answer = {"seconds": timed(losses[request["run"]], *tensors) / 1e9}
        # whatever it is, who asked has to know
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, ensure_ascii=False), file=ANSWERS, flush=True)


def figure(name, sizes, times):
    low, median, high = (round(ns) for ns in np.percentile(times, [10, 50, 90]))
    return {
        "name": name,
        "shape": "x".join(map(str, sizes)),
        "stage": "forward + backward",
        "median_ns": median,
        "low_ns": low,
        "high_ns": high,
        "runs": len(times),
    }


def show(figure):
    low, median, high = (figure[key] / 1e6 for key in ("low_ns", "median_ns", "high_ns"))
    line = f"{figure['name']:32} {figure['shape']:>16} {median:10.3f} ms   10–90 %: {low:.3f}–{high:.3f} ms"
    print(line, file=sys.stderr)


def machine(device):
    cpu = device == "cpu"
    place = f"cpu, {torch.get_num_threads()} threads" if cpu else f"CUDA {torch.version.cuda}"
    return {
        "adapter": cpu_name() if cpu else torch.cuda.get_device_name(),
        "backend": f"PyTorch {torch.__version__} on {place}",
        "driver": ", ".join(f"{package} {version(package)}" for package in ("monai", "nnunetv2")),
        "software": cpu,
    }


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit():
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    if SERVES:
        serve(args)
        return
    figures = []
    for sizes in args.shape:
        measured = measure(sizes, args)
        for one in measured:
            show(one)
        figures += measured
    report = {
        "schema": "segloss-bench/1",
        "machine": machine(args.device),
        "commit": commit(),
        "clock": "wall",
        "figures": figures,
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if args.json:
        args.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
