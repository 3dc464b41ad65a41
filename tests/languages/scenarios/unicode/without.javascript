a script in JavaScript has no functions for files
