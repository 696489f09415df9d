'use strict';
module.exports = (text) => (process.stdout.isTTY ? `\x1b[36m${text}\x1b[0m` : text);
