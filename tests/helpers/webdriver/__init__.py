"""The page in Firefox and in WebKit: as much of Playwright's interface as the tests use, over the W3C's WebDriver.

Playwright drives only its own builds of these two. Debian's speak WebDriver: Firefox in its bidirectional form,
WebKitGTK in the classic one. `firefox.py` and `webkit.py` start the browsers and carry out what `page.py` asks for, as
`driver.py` lists it. Elements are found by `find.js`, in the page.
"""
