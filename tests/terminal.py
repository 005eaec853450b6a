"""Drives a program on a pseudo-terminal, for tests/repl_spec.lua.

usage: terminal.py STEPS COMMAND...   STEPS is a file of lines `send HEX`, `expect HEX` (a regular expression, within 10 s) and `eof`.
Prints nothing and exits 0 when every step worked; else prints the step and what the terminal showed. Escape sequences are taken out first.
"""
import os, pty, re, select, sys, time

ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[=>78]|\][^\x07]*\x07|[()][A-Z0-9])")


def main():
    steps = [line.split() for line in open(sys.argv[1])]
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(sys.argv[2], sys.argv[2:])
    shown, start, ended = b"", 0, False

    def read(seconds):
        nonlocal shown, ended
        if select.select([fd], [], [], seconds)[0]:
            try:
                data = os.read(fd, 4096)
            except OSError:  # what Linux gives when the last user of the terminal is gone
                data = b""
            if not data:
                ended = True
            shown += data

    for step in steps:
        deadline = time.time() + 10
        if step[0] == "send":
            os.write(fd, bytes.fromhex(step[1]))
            continue
        wanted = re.compile(bytes.fromhex(step[1]), re.S) if step[0] == "expect" else None
        while True:
            text = ESCAPES.sub(b"", shown)
            if wanted:
                found = wanted.search(text, start)
                if found:
                    start = found.end()
                    break
            elif ended:
                break
            if ended or time.time() > deadline:
                print("waited for", wanted.pattern if wanted else "the end", "after", repr(text[:start][-80:]), "but got", repr(text[start:]))
                os.kill(pid, 9)
                return 1
            read(0.05)
    if ended:
        return 0
    os.kill(pid, 9)
    return 0


sys.exit(main())
