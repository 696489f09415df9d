'use strict';
// Uses both dependencies: an install is good only if what was installed works.
const widget = require('honest-widget');
const paint = require('color-stringz');

console.log(paint(`${widget.palette.length} colours, checksum ${widget.checksum()} (${widget.engine})`));
