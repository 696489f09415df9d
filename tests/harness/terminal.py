"""Runs a command on a terminal of its own and plays the user.

usage: terminal.py STEPS COMMAND...    STEPS is a JSON list of:
  ["type", TEXT]      write to the terminal
  ["see", TEXT]       wait until TEXT has appeared since the last "see"
  ["file", PATH]      wait until PATH exists
  ["pause", SECONDS]  let time pass
  ["hang up"]         close the terminal
Prints what appeared; ends as the command ended, or with 99 when a step waited in vain.
"""
import json, os, pty, select, signal, sys, time

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)

seen, mark, code = b"", 0, None


def pump(seconds):
    global seen
    if terminal is None:
        time.sleep(seconds)
    elif select.select([terminal], [], [], seconds)[0]:
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            time.sleep(seconds)


def until(condition, seconds=30):
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            return False
        pump(0.02)
    return True


def ended():
    global code
    if code is None:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
    return code is not None


def appeared(text):
    global mark
    at = seen.find(text.encode(), mark)
    if at >= 0:
        mark = at + len(text.encode())
    return at >= 0


for step in steps:
    ok = True
    if step[0] == "type":
        os.write(terminal, step[1].encode())
    elif step[0] == "see":
        ok = until(lambda: appeared(step[1]))
    elif step[0] == "file":
        ok = until(lambda: os.path.exists(step[1]))
    elif step[0] == "pause":
        until(lambda: False, step[1])
    elif step[0] == "hang up":
        os.close(terminal)
        terminal = None
    if not ok:
        code = 99
        print("waited in vain for", step)
        break
if code is None and not until(ended, 60):
    code = 99
    print("the command did not end")
if code == 99:
    os.kill(pid, signal.SIGKILL)
while terminal is not None and select.select([terminal], [], [], 0.1)[0]:
    try:
        seen += os.read(terminal, 65536)
    except OSError:
        break
sys.stdout.flush()
sys.stdout.buffer.write(seen)
sys.stdout.flush()
sys.exit(code if code >= 0 else 128 - code)
