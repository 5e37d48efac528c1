// Before everything else: what goes wrong from here on is kept.
window.wrong = [];
window.addEventListener("error", event => window.wrong.push(`error: ${event.message}`));
document.addEventListener("securitypolicyviolation", event => window.wrong.push(`fetches ${event.blockedURI}`));
