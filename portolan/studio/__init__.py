"""Runs on a page of the browser, for `apps.studio`: a local server and its front end in `static/`.

    wire        what an answer is made of: JSON and arrays in one message
    fields      what a request may ask, within bounds
    worker      one thread that computes; requests that are out of date are dropped
    session     the runs that are open, by number
    views       samples as they are drawn: tiles, points, text
    about       what a run can do, for the page
    sampling, carrying, steering, following, editing, inspecting   the jobs of each panel
    guard       which requests are let in
    server      routes, and the socket

It needs Starlette and uvicorn (`pip install "portolan[studio]"`), which `server` imports.
"""
