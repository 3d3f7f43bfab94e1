"""Makes the pictures of a terminal, each of commands that it runs."""

import contextlib
import fcntl
import io
import os
import pty
import shutil
import struct
import subprocess
import tempfile
import termios
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

root = Path(__file__).resolve().parents[2]
images = root / "docs/images"
width = 100  # columns

colours = [(31, 35, 40), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)]
theme = TerminalTheme((31, 35, 40), (230, 237, 243), colours)
faint = "#8c959f"

# As rich's own, but that it asks no other host for a font, and has no buttons of a window. The
# lines begin at 9 and end at 9 from the width; 8 more are left free beside them.
template = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 0 1254 {height}" role="img">
<title>TITLE</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; font-size: {char_height}px; font-variant-ligatures: none; }}
{styles}
</style>
<defs>{lines}</defs>
<rect x="-7" y="1" width="1252" height="99%" rx="8" fill="#1f2328" stroke="#57606a"/>
<g transform="translate({terminal_x}, 22)">
{backgrounds}<g class="{unique_id}-matrix" xml:space="preserve">{matrix}</g>
</g>
</svg>
"""


def main():
    images.mkdir(exist_ok=True)
    demo = Path("/tmp/tea")  # as it is in the picture
    demo.mkdir()
    try:
        picture("demo", "A bot remembers while its homeserver is stopped", root, [
            f"""go run ./examples/remember -offline -data {demo} | grep -v '"type":"m.room'""",
        ])  # fmt: skip
    finally:
        shutil.rmtree(demo)

    with tempfile.TemporaryDirectory() as files:
        go = ["go", "build", "-o", files]
        subprocess.run([*go, "./docs/pictures/scene"], cwd=root, check=True)
        subprocess.run([*go, "-tags", "goolm", "."], cwd=root / "cmd/matrix-memory", check=True)
        os.environ["PATH"] = files + os.pathsep + os.environ["PATH"]
        with scene(files):
            picture("status", "What matrix-memory status says of two rooms, one of them not in order", files, ["matrix-memory status"])
            picture("show", "A room with a memory, as matrix-memory show prints it", files, [
                "matrix-memory ls",
                "matrix-memory get birthdays",
                "matrix-memory show",
            ])  # fmt: skip


@contextlib.contextmanager
def scene(folder):
    with subprocess.Popen(["scene"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() != "all is there\n":
            raise SystemExit("the scene is not there")
        yield
        process.stdin.close()
    if process.returncode != 0:
        raise SystemExit(f"the scene has failed with {process.returncode}")


def picture(name, title, folder, commands):
    """Draws a terminal in which the commands are run."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
    for command in commands:
        say(console, Text.assemble(("$ ", "green"), (command, "bold")))
        output, code = run(command, folder)
        for line in output.splitlines():
            say(console, Text.from_ansi(line.expandtabs()))
        if code != 0:
            say(console, Text(f"[exit code {code}]", faint))
    svg = console.export_svg(theme=theme, code_format=template.replace("TITLE", title), unique_id="t")
    ElementTree.fromstring(svg)  # or it is no XML
    (images / f"{name}.svg").write_text(svg)
    print(f"{name}.svg: {len(svg)} bytes")


def say(console, line):
    """Writes a line and breaks it where a terminal would."""
    for part in line.divide(range(width, len(line), width)) or [line]:
        console.print(part, overflow="ignore", no_wrap=True, highlight=False)


def run(command, folder):
    """Runs a command in a terminal, and returns what it writes there, and its exit code."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    shell = subprocess.Popen(["bash", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, stdout=its, stderr=its)
    os.close(its)
    output = b""
    with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # at its end it fails
        while part := terminal.read(65536):
            output += part
    return output.decode().replace("\r\n", "\n"), shell.wait()


main()
