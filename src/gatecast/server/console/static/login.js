// A link may bring the token behind the number sign, which browsers send to nobody: it is taken out of the address at once.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  document.getElementById("token").value = given;
  document.getElementById("login-form").requestSubmit();
}
