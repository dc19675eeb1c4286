"""Two owners and a page, as every test of this folder knows them."""

MARY, JOHN = "ak_marys-key-for-these-tests-only", "ak_johns-key-for-these-tests-only"
PAGE = "https://good.example"
