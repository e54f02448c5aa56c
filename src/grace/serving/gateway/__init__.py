"""
The gateway: exact distributions over fixed answers, for other programs, by HTTP.

The scoring part (`service`, `unscorable`, `messages`) knows nothing of HTTP;
the HTTP part (`app`, `guard`, `gate`, `metrics`, `server`) knows nothing of
tokens. Which model answers is decided by whoever builds the service.
"""
