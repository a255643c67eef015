"""A headless Chromium, told what to do through its DevTools protocol over two pipes."""

import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

_COMMANDS = (
    *('chromium', 'chromium-browser', 'chromium-headless-shell', 'chrome-headless-shell'),
    *('google-chrome', 'google-chrome-stable', 'chrome'),
)
_SWITCHES = (
    *('--headless', '--no-sandbox', '--remote-debugging-pipe', '--disable-gpu', '--no-first-run'),
    *('--disable-background-networking', '--disable-dev-shm-usage', '--hide-scrollbars'),
)
# The browser reads what it is told from its file 3 and answers on 4.
_BECOME = """
import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(reading, 3)
os.dup2(writing, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_SECONDS = 60

# Texts with less contrast to what is behind them than 4.5 : 1 (WCAG 2, level AA).
HARD_TO_READ = """
(() => {
  const seen = {opacityProperty: true, visibilityProperty: true};
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const paint = colours => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => rgb.map(x => x / 255)
    .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, n) => sum + x * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = element => element ?
    [...behind(element.parentElement), getComputedStyle(element).backgroundColor] : [];
  return [...document.body.querySelectorAll('*')].filter(element => {
    if (![...element.childNodes].some(x => x.nodeType == 3 && x.data.trim())) return false;
    if (element.closest('title, .inside') || !element.checkVisibility(seen)) return false;
    const style = getComputedStyle(element), back = behind(element);
    const ink = element.closest('svg') ? style.fill : style.color;
    const [a, b] = [light(paint(back)), light(paint([...back, ink]))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map(element => element.outerHTML.slice(0, 200));
})()
"""


def find():
    """The path of a Chromium, installed as a package or by Playwright; None if there is none."""
    for command in _COMMANDS:
        if path := shutil.which(command):
            return path
    folder = os.environ.get('PLAYWRIGHT_BROWSERS_PATH', '~/.cache/ms-playwright')
    found = [
        path
        for name in ('chrome', 'headless_shell', 'chrome-headless-shell')
        for path in sorted(pathlib.Path(folder).expanduser().glob(f'chromium*/*/{name}'))
    ]
    return str(found[-1]) if found else None


class Seen(NamedTuple):
    """What a page came to in the browser.

    Attributes:
      complaints: what it wrote on the console, and errors of scripts, styles and policies.
      requests: the addresses that it asked for, but for what it holds itself.
      values: what the questions were answered, by name.
      picture: a screenshot of the window, PNG.
    """

    complaints: list[str]
    requests: list[str]
    values: dict
    picture: bytes


class Browser:
    """A running browser; `opened` starts and ends it."""

    def __init__(self, writing, reading):
        self._writing, self._reading = writing, reading
        self._asked, self._received, self._events = 0, b'', []
        target = self._call('Target.createTarget', url='about:blank')['targetId']
        attached = self._call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self._call(f'{domain}.enable')
        # Every visit is a first one: pages may keep the colours that were seen last.
        forget = 'try { localStorage.clear(); } catch (error) {}'
        self._call('Page.addScriptToEvaluateOnNewDocument', source=forget)

    def look(self, path, width, height, dark, questions, ready='true') -> Seen:
        """Opens a file.

        Args:
          path: of an HTML page.
          width, height: of the window in CSS pixels; below 600 it is a phone's.
          dark: whether dark mode is preferred.
          questions: `{name: expression}` in JavaScript, asked of the page when it is loaded.
          ready: an expression that is true as soon as scripts of the page have done their part.
        """
        self._call(
            'Emulation.setDeviceMetricsOverride',
            **{'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 600},
        )
        mode = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self._call('Emulation.setEmulatedMedia', features=[mode])
        self._events.clear()
        self._call('Page.navigate', url=pathlib.Path(path).resolve().as_uri())
        while not any(event['method'] == 'Page.loadEventFired' for event in self._events):
            self._receive()
        end = time.monotonic() + _SECONDS
        while not self._ask(ready):
            assert time.monotonic() < end, f'{path} does not become ready: {ready}'
            time.sleep(0.02)
        values = {name: self._ask(expression) for name, expression in questions.items()}
        picture = base64.b64decode(self._call('Page.captureScreenshot')['data'])
        complaints = [
            json.dumps(event['params'])
            for event in self._events
            if event['method']
            in ('Log.entryAdded', 'Runtime.consoleAPICalled', 'Runtime.exceptionThrown')
        ]
        requests = [
            event['params']['request']['url']
            for event in self._events
            if event['method'] == 'Network.requestWillBeSent'
        ]
        requests = [url for url in requests if not url.startswith('data:')]
        return Seen(complaints, requests, values, picture)

    def _ask(self, expression):
        answer = self._call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def _call(self, method, **parameters):
        self._asked += 1
        message = {'id': self._asked, 'method': method, 'params': parameters}
        if hasattr(self, '_session'):
            message['sessionId'] = self._session
        os.write(self._writing, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._asked:
                assert 'error' not in answer, (method, answer)
                return answer['result']

    def _receive(self):
        """The next message; events are kept."""
        end = time.monotonic() + _SECONDS
        while b'\0' not in self._received:
            ready, _, _ = select.select([self._reading], [], [], max(0, end - time.monotonic()))
            assert ready, 'the browser does not answer'
            found = os.read(self._reading, 2**20)
            assert found, 'the browser has ended'
            self._received += found
        text, self._received = self._received.split(b'\0', 1)
        message = json.loads(text)
        if 'method' in message:
            self._events.append(message)
        return message


@contextlib.contextmanager
def opened(path):
    """A `Browser`.

    Args:
      path: of the program.
    """
    reading, their_writing = os.pipe()
    their_reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(sys.executable, '-S', '-c', _BECOME, str(their_reading), str(their_writing)),
                *(path, *_SWITCHES, f'--user-data-dir={profile}', 'about:blank'),
            ],
            pass_fds=(their_reading, their_writing),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_reading)
        os.close(their_writing)
        try:
            yield Browser(writing, reading)
        finally:
            os.close(writing)
            os.close(reading)
            try:
                process.wait(10)  # it ends with its pipes
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
