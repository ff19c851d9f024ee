"""An engine in a process of its own: frames, the child, its supervisor, and hooks that speak to it.

``frames`` what is said on the wire · ``process`` a child process and its log · ``child`` what runs inside it · ``client`` one
worker as the host sees it · ``supervisor`` which worker serves now · ``stream`` a request that survives its worker ·
``remote`` the contract's hooks over all that.
"""
