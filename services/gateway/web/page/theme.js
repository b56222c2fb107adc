// Runs before the first paint, so that a chosen theme does not flash. Without a choice the system's theme holds.
{
  const chosen = localStorage.getItem("gsi-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
