// Package recipes runs the code of the README: the examples for each language
// as they stand, and the recipes as programs (go/, node/, python/) that contain,
// word for word, what the README shows of them. The built proxy and a real
// redis-server are behind them, and several programs, of different languages
// and at two proxies, play together.
//
// Code in the README that no test runs is a failure, unless the README says
// that it was not run.
package recipes
