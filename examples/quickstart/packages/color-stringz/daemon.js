'use strict';
// What stays behind: a real one would wait for secrets. This one leaves by itself.
setTimeout(() => {}, 30_000);
