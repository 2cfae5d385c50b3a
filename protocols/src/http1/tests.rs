//! Situations of HTTP/1 that recorded traffic does not show, and the llhttp corpus.
