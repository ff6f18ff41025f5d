"""Drives the page in Firefox and WebKit: the part of Playwright's interface that the tests use, on top of WebDriver.

Playwright drives only its own builds of these two browsers. Debian's builds support W3C WebDriver: Firefox its
bidirectional form, WebKitGTK the classic one. `firefox.py` and `webkit.py` start the browsers, and implement the
protocol `Driver` of `driver.py`, which `page.py` uses. `find.js` finds elements, within the page.
"""
