"""What `portico top` shows of a running gateway: a picture of it, what keeps that true, views of it, and screens for those.

Above: the command. Below: the client of the public API alone, so that a remote gateway looks as one of this machine does. The files
that are named below a screen (`app`, `listing`, `headline` and the dialogs) need Textual; the others print without it.
"""
