// Package layout keeps the shape of the repository: who may import whom.
package layout
